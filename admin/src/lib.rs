//! What the operators' side of both programs has in common; it knows no packets and no policies.
//!
//! `table` and `number` print for people.

pub mod number;
pub mod table;
