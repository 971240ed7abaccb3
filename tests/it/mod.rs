mod cache;
mod fetch;
mod hub;
mod images;
mod pip;
mod ranks;
mod runtime;
