//! What the operators' side of both programs has in common; it knows no packets and no policies.
//!
//! - `listen`: where an API may be; `listener`: its socket
//! - `server`: who is connected, and how each is answered; `answer`: the form of refusals
//! - `client`: asks such an API
//! - `table`, `number`: print for people; `manual`: completions and manual pages

pub mod answer;
pub mod client;
pub mod listen;
pub mod listener;
pub mod manual;
pub mod number;
pub mod server;
pub mod table;
