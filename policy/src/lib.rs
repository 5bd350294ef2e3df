//! The policy documents that both sides read, from text to the tables they work with.
//!
//! ```text
//! text ─▶ tree ─▶ decode ─▶ validate ─▶ PolicySet ─▶ compile_gateway ─▶ GatewayPolicies
//!        syntax   one        documents      │
//!                 document   together       └──────▶ compile_node ────▶ NodePolicies
//! ```
//!
//! Nothing here does I/O, reads a clock or logs: text comes in, values come out. In reading order:
//!
//! 1. [`document`]: the four kinds of document, as typed values
//! 2. [`selector`]: which pods a policy is about
//! 3. [`id`]: the policy id, which is the VNI on the wire
//! 4. [`error`]: what is told to whoever wrote a document
//! 5. `parse`: texts to [`PolicySet`]; `yaml` and `json` make a `tree`, `reader` walks it and knows the
//!    `path`, `decode` reads a document and `values` its addresses and names
//! 6. `validate`: what documents must agree on; `warnings`: what may have been meant differently,
//!    with `cover` to ask many networks about many, and `families` for IPv4 beside IPv6
//! 7. `selection`: which policies select a pod; `precedence`: which of them wins a destination
//! 8. [`gateway`] and [`node`]: what each side takes from the set

mod cover;
mod decode;
pub mod document;
pub mod error;
mod families;
pub mod gateway;
pub mod id;
mod json;
pub mod node;
mod parse;
mod path;
mod precedence;
mod reader;
mod selection;
pub mod selector;
mod tree;
mod validate;
mod values;
mod warnings;
mod yaml;

pub use document::{
    API_VERSION, Egress, EgressEndpoint, EgressGateway, EgressNode, EgressPolicy, EndpointSpec,
    FailureMode, GatewaySpec, Metadata, NodeSpec, Object, PolicySet, PolicySpec, SourceCheck,
};
pub use error::{LoadError, PolicyError, SyntaxError, Warning};
pub use gateway::{
    ForGateway, GatewayLimits, GatewayNode, GatewayPolicies, GatewayPolicy, compile_gateway,
    load_for_gateway,
};
pub use id::PolicyId;
pub use node::{NodeGateway, NodePolicies, NodePolicy, SetId, compile_node};
pub use parse::{Format, MAX_BYTES, Source, parse, parse_sources};
pub use precedence::{Action, PolicyMap};
pub use selector::{LabelSelector, Operator, Requirement, Selector};
pub use values::is_name;
