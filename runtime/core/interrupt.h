// One process-wide request to stop. The command line's signal handler sets it; long work polls it
// between steps. Kept here so that every layer can honour Ctrl-C without handling signals.
#pragma once

namespace thermocline {

// Async-signal-safe. Returns how many requests there have been since the last clear.
int RequestInterrupt();
// Async-signal-safe. A request to leave altogether: no clear takes it back. signal_number: not 0.
void RequestTermination(int signal_number);
// The signal that asked to leave altogether; 0 where none did.
int TerminationSignal();
bool InterruptRequested();
void ClearInterrupt();

// Throws Interrupted when a stop was requested.
void ThrowIfInterrupted();

}  // namespace thermocline
