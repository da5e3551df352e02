//! Codes of JSON-RPC errors.

/// Before 2026-07-28; `INVALID_PARAMS` since.
pub(super) const RESOURCE_NOT_FOUND: i64 = -32_002;
pub(super) const HEADER_MISMATCH: i64 = -32_020;
pub(super) const MISSING_CAPABILITY: i64 = -32_021;
pub(super) const UNSUPPORTED_VERSION: i64 = -32_022;
pub(super) const INVALID_REQUEST: i64 = -32_600;
pub(super) const METHOD_NOT_FOUND: i64 = -32_601;
pub(super) const INVALID_PARAMS: i64 = -32_602;
pub(super) const INTERNAL_ERROR: i64 = -32_603;
