// The page to chat on, as one text: tools/serve/page, put together when the program is built.
#pragma once

#include <string_view>

namespace thermocline {

std::string_view PageText();

}  // namespace thermocline
