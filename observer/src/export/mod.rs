//! Shows what a session found: the report (text, JSON), `ps` and `doctor`. Reads `model` only.

pub mod doctor;
pub mod dto;
pub mod ps;
pub mod report;
pub mod sink;
pub mod text;

mod timestamp;
