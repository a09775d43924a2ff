"""What any module may ask of this host: files, locks, processes, paths. Knows nothing of the lifecycle."""
