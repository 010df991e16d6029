// Which control groups limit this process (cgroups(7), version 1 and 2).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

struct ControlGroup {
  std::filesystem::path directory;  // where its files lie; it need not be there
  std::string name;                 // as /proc/self/cgroup says it, "/" for the topmost
  bool unified = false;             // version 2
};

// Returns the groups that the controller ("cpu", "memory") applies to this process, from its own up
// to the topmost; none where there are no control groups. `root` stands for "/", for tests.
std::vector<ControlGroup> ControlGroupsOf(std::string_view controller,
                                          const std::string& root = "/");

}  // namespace thermocline
