//! Makes packets and counts what comes back.
