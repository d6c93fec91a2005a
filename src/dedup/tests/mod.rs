//! Tests of the tables and their files as a whole.

mod crash;
mod damage;
mod measure;
mod model;
mod sends;
mod vectors;
