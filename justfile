# What is typed most often. `just` lists it; `tests/run` is all of it and installs what it needs.

_list:
    @just --list --unsorted

# Format, lints, and the fence with the figures of the code's shape
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --test e2e --test reliability -- -D warnings
    cargo test --locked --test tidy -- --nocapture figures

# Unit and integration tests, or those whose names contain FILTER
test *FILTER:
    cargo test --locked {{ FILTER }}

# Real clients and registries, as far as they are installed; FILTER as in `just e2e conformance`
e2e *FILTER:
    cargo test --locked --test e2e -- --test-threads=1 --show-output {{ FILTER }}

# Everything around Larder fails; PARTS as in `just reliability nth`, or `--long`
reliability *PARTS:
    cargo test --locked --test reliability -- {{ PARTS }}

# Larder beside nginx and distribution; ROWS as in `just bench blob-hit`
bench *ROWS:
    cargo bench --locked --bench compare -- {{ ROWS }}

# The documentation of the code, with every warning an error
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --document-private-items
