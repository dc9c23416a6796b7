//! The room `alert`; see ARCHITECTURE.md.
