package embednats

// Syncs reports whether the server writes each message to disk before it
// acknowledges it.
func (s *Server) Syncs() bool { return s.srv.JetStreamConfig().SyncAlways }
