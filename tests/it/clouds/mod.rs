//! The services of clouds that issue Larder's own credentials, as strict as the real ones.

mod aws;
mod aws_signature;
mod azure;
mod ecr;
mod google;
mod machine;
mod online;
mod patterns;
mod refresh;
mod renewed;
mod server;
mod token;
