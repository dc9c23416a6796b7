//! The running loop: observe → predict → decide → publish, the migrations between the cycles, and
//! the commands of people at any time.

pub mod audit;
pub mod book;
pub mod failures;
pub mod intake;
pub mod inventory;
pub mod link;
pub mod observe;
pub mod picture;
pub mod write_back;
