//! The room `migrate`; see ARCHITECTURE.md.
