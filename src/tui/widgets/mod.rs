//! Pieces that screens are made of: plain data in, cells out.

pub mod fan_chart;
pub mod heat_strip;
pub mod line_canvas;
pub mod sparkline;
pub mod table;
