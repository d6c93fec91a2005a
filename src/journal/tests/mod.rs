mod append;
mod crashing;
mod measure;
mod preparing;
mod replaying;
mod rig;
mod syncing;
