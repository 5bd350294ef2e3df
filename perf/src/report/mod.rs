//! A result for the eye: one HTML file that needs nothing else.
