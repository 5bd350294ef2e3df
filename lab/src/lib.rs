//! A whole site on one machine: two nodes with pods, a gateway host, routers and a world, in network namespaces that nobody else sees and that
//! end with whoever made them. In reading order:
//!
//! 1. [`topology`]: who is there and how they are cabled, in both address families ([`family`]); [`site`]: what differs from lab to lab; [`rack`]: the one wire
//!    of a one-armed gateway
//! 2. [`init`] and [`namespaces`]: how they come to be, and why they cannot be left behind; [`host`] and [`daemon`]: what one does with them
//! 3. [`echo`] and [`probe`]: the world's server, and marked traffic from a pod to it
//! 4. [`oracle`]: the proof that nothing leaves with a wrong source
//! 5. [`stack`]: all of it together, with the product's programs ([`config`])
//! 6. [`traffic`]: flows from pods, judged by what the world saw
//! 7. [`storm`]: many reloads under many flows, every packet counted
//! 8. [`by_hand`]: a lab that stays, to play with
//! 9. [`demo`]: the scenario that `./dev demo` shows; `tests/` are the same as assertions, and much more

pub mod by_hand;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod echo;
pub mod family;
pub mod host;
pub mod hugepages;
pub mod init;
pub mod marker;
pub mod namespaces;
pub mod oracle;
pub mod probe;
pub mod rack;
pub mod site;
pub mod stack;
pub mod storm;
pub mod topology;
pub mod traffic;
pub mod wait;
