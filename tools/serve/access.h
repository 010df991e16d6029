// Who may call: API keys, names of hosts, and pages of other sites.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/http/http_message.h"
#include "tools/serve/api_error.h"

namespace thermocline {

struct AccessRules {
  std::vector<std::string> api_keys;
  std::vector<std::string> allowed_origins;
  std::vector<std::string> allowed_hosts;
};

// Whether both are the same, in a time that does not tell where they differ.
bool SameSecret(std::string_view given, std::string_view secret);

class Access {
 public:
  explicit Access(AccessRules rules) : rules_(std::move(rules)) {}

  // What is wrong with who calls, or nothing. With a key, the key decides, whoever sends it.
  // Without one the server trusts its own machine and not the pages that are open there: a page of
  // another site may not call it, and it must be called by a name that is this machine's, so that
  // no site can make its own name stand for it.
  std::optional<ApiError> Refuse(const HttpRequest& head) const;

  // The headers that let a page of another site read an answer; none where it may not.
  std::vector<std::pair<std::string, std::string>> Headers(const HttpRequest& request) const;
  // The answer to what a browser asks before it lets such a page call.
  HttpResponse Preflight(const HttpRequest& request) const;

 private:
  bool NeedsKey(const std::string& path) const;
  bool HasKey(const HttpRequest& head) const;
  bool MayCall(std::string_view origin) const;
  bool IsOurName(std::string_view host) const;

  AccessRules rules_;
};

}  // namespace thermocline
