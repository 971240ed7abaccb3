mod ranks;
