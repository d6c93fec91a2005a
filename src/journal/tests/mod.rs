mod append;
mod measure;
mod replaying;
mod rig;
mod syncing;
