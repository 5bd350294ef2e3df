//! A result for the eye: one HTML file that needs nothing else. `page` is the whole of it, `plot` the SVG,
//! `figures` its last table, `text` numbers and tables.

mod figures;
mod page;
mod plot;
mod text;

pub use page::html;
