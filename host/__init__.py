"""What any module may ask of this host: files, locks, processes, where everything lies. Knows no lifecycle."""
