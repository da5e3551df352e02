//! Auth mode Direct.
