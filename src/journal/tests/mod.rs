mod append;
mod crashing;
mod measure;
mod replaying;
mod rig;
mod syncing;
