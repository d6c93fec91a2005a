mod append;
mod crashing;
mod hostile;
mod measure;
mod preparing;
mod replaying;
mod rig;
mod syncing;
