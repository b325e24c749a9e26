//! Traces, as a collector sees them: it reads each message by the schema of OTLP.

mod collector;
mod context;
mod faults;
mod settings;
mod spans;

pub use collector::Collector;
