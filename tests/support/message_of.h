// What an Error says, for tests that look at its words.
#pragma once

#include <string>

#include "runtime/core/error.h"

namespace thermocline {

// Returns the message of the Error that call() throws, or "" when it throws none.
template <typename Call>
std::string MessageOf(Call call) {
  try {
    call();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace thermocline
