//! The room `sim`; see ARCHITECTURE.md.
