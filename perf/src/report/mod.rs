//! A result for the eye: one HTML file that needs nothing else. `page` is the whole of it, `plot` the SVG,
//! `text` numbers and tables.

mod page;
mod plot;
mod text;

pub use page::html;
