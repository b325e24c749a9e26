//! The one way from the reactor to the threads that may wait for the disk.

use std::io;

use tokio::task::spawn_blocking;

/// Runs file operations where they may block.
///
/// # Errors
///
/// Those of `work`. A task that is lost, by a panic in it or at the end of the runtime, is an error
/// of kind [`io::ErrorKind::Other`]; the panic itself has been reported by the panic hook.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_task_is_an_error_and_no_panic_of_its_caller() {
        let lost = blocking::<()>(|| panic!("as told")).await;
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(blocking(|| Ok(7)).await.unwrap(), 7);
    }
}
