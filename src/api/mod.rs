//! The room `api`; see ARCHITECTURE.md.
