// One process-wide request to stop. The command line's signal handler sets it; long work polls it
// between its pieces. It lies here so that every layer can honour Ctrl-C without handling signals.
#pragma once

namespace thermocline {

// Asks for a stop. Returns how many requests there have been since the last clear.
// Async-signal-safe.
int RequestInterrupt();
// Asks to leave altogether: no clear takes it back. signal_number: not 0. Async-signal-safe.
void RequestTermination(int signal_number);
// Returns the signal that asked to leave altogether; 0 where none did.
int TerminationSignal();
bool InterruptRequested();
void ClearInterrupt();

// Throws Interrupted when a stop was requested.
void ThrowIfInterrupted();

}  // namespace thermocline
