// Memory that calls of one object keep between them, for calls from several threads at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace thermocline {

template <typename Workspace>
class WorkspacePool {
 public:
  // Takes one that is free, or makes one of the arguments. Calls that run at the same time have one
  // each.
  template <typename... Args>
  std::unique_ptr<Workspace> Take(const Args&... args) {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
      }
    }
    return std::make_unique<Workspace>(args...);
  }

  void Return(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard lock(mutex_);
    if (free_.size() < kMaxFree) free_.push_back(std::move(workspace));
  }

 private:
  static constexpr size_t kMaxFree = 4;  // with a cache of words some 2 MiB each

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

}  // namespace thermocline
