// The temporary files of AtomicFile: their names, the lock that says one is in use, and the removal
// of those that killed writers left.
#pragma once

#include <cstdint>
#include <string>

namespace thermocline {

// Returns NAME.XXXXXXXX.tmp, with 8 lower-case hexadecimal digits.
std::string TemporaryName(const std::string& name, uint32_t number);

// Takes the lock on a temporary file just created, for as long as `fd` is open. Returns false where
// the file is gone: another writer had removed it before. Where the file system has no locks the
// file stays unlocked, and stale ones stay.
bool LockTemporary(int fd);

// Removes files beside `name` that are called as a temporary file of it, are regular and are locked
// by nobody. A failure is silent: what stays does no harm.
void RemoveStaleTemporaries(const std::string& name);

}  // namespace thermocline
