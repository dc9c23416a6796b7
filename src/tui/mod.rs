//! The room `tui`; see ARCHITECTURE.md.
