//! How bodies end.

use super::sites::{Make, Step, head, reply};
use super::*;

async fn answered(script: Make) -> Answer {
    let network = world();
    network.serve(UP, move |_| script());
    ask(&upstream(&network, &options()), &blob(ReadMethod::Get, 0)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_comes_in_pieces_and_ends() {
    let mut answer = answered(|| {
        vec![
            Step::Send(head(200, &[("Content-Length", "4")])),
            Step::Send(b"ab".to_vec()),
            Step::Wait(Duration::from_secs(29)),
            Step::Send(b"cd".to_vec()),
        ]
    })
    .await;
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "ab");
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "cd");
    assert_eq!(answer.body.chunk().await.unwrap(), None);
    assert_eq!(answer.body.chunk().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn silence_in_a_body_is_a_stall_after_half_a_minute() {
    let mut answer = answered(|| {
        vec![
            Step::Send(head(200, &[("Content-Length", "4")])),
            Step::Send(b"ab".to_vec()),
            Step::Hang,
        ]
    })
    .await;
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "ab");
    let start = Instant::now();
    assert!(matches!(answer.body.chunk().await, Err(UpstreamError::Stalled { .. })));
    assert_eq!(start.elapsed().as_secs(), 30);
}

/// A caller that lost the error must not take what follows for a clean end.
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_never_ends_cleanly() {
    let scripts: [Make; 4] = [
        || {
            let mut script = vec![Step::Send(head(200, &[("Content-Length", "4")]))];
            script.extend([Step::Send(b"ab".to_vec()), Step::Close]);
            script
        },
        || {
            let mut script = vec![Step::Send(head(200, &[("Transfer-Encoding", "chunked")]))];
            script.extend([Step::Send(b"2\r\nab\r\n".to_vec()), Step::Close]);
            script
        },
        || {
            let mut script = vec![Step::Send(head(200, &[("Transfer-Encoding", "chunked")]))];
            script.extend([Step::Send(b"2\r\nab\r\nzz\r\n".to_vec())]);
            script
        },
        || {
            let mut script = vec![Step::Send(head(200, &[("Transfer-Encoding", "chunked")]))];
            script.extend([Step::Send(b"2\r\nab\r\nffffffffffffffffff\r\n".to_vec())]);
            script
        },
    ];
    for script in scripts {
        let mut answer = answered(script).await;
        assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "ab");
        for _ in 0..2 {
            let end = answer.body.chunk().await;
            assert!(matches!(end, Err(UpstreamError::Unreachable { .. })), "{end:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_collected_body_is_bounded_announced_or_not() {
    let announced: Make = || reply(200, &[], "12345");
    let chunked: Make = || {
        let mut bytes = head(200, &[("Transfer-Encoding", "chunked")]);
        bytes.extend_from_slice(b"3\r\n123\r\n2\r\n45\r\n0\r\n\r\n");
        vec![Step::Send(bytes)]
    };
    for script in [announced, chunked] {
        assert_eq!(answered(script).await.body.collect(5).await.unwrap(), "12345");
        let error = answered(script).await.body.collect(4).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unexpected { .. }), "{error:?}");
    }
    let endless: Make =
        || vec![Step::Send(head(200, &[("Content-Length", "9999999999999")])), Step::Hang];
    let start = Instant::now();
    assert!(answered(endless).await.body.collect(1 << 20).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_or_says_two_things_is_no_answer() {
    let long = || {
        let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        bytes.resize(1 << 20, b'a');
        vec![Step::Send(bytes), Step::Hang]
    };
    let many = || {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.extend_from_slice("X: y\r\n".repeat(2000).as_bytes());
        vec![Step::Send(bytes), Step::Hang]
    };
    let scripts: [Make; 6] = [
        long,
        many,
        || reply(200, &[("Content-Length", "-1")], ""),
        || reply(200, &[("Content-Length", "1"), ("Content-Length", "2")], "12"),
        || reply(200, &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")], "0\r\n\r\n"),
        || reply(206, &[("Content-Range", "bytes 0-0/1")], "x"),
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let network = world();
        network.serve(UP, move |_| script());
        let asked = ask(&upstream(&network, &options()), &blob(ReadMethod::Get, 0)).await;
        let is_refused = matches!(
            asked,
            Err(UpstreamError::Unexpected { .. } | UpstreamError::Unreachable { .. })
        );
        assert!(is_refused, "{index}: {asked:?}");
    }
}

/// Bytes behind an answer could be taken for the next one's.
#[tokio::test(start_paused = true)]
async fn a_connection_with_bytes_left_over_is_not_used_again() {
    let network = world();
    network.serve(UP, |_| {
        let mut script = reply(200, &[], "layer");
        script.push(Step::Send(head(404, &[("Content-Length", "0")])));
        script
    });
    let upstream = upstream(&network, &options());
    for _ in 0..2 {
        assert_eq!(pull(&upstream).await.unwrap(), "layer");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(network.dialled().len(), 2);
}
