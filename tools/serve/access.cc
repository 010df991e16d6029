#include "tools/serve/access.h"

#include <algorithm>

namespace thermocline {
namespace {

// What anybody may see: that the server is there, and its page.
constexpr std::string_view kOpenPaths[] = {"/", "/index.html", "/favicon.ico", "/health",
                                           "/v1/health"};

bool IsOpenPath(std::string_view path) {
  return std::find(std::begin(kOpenPaths), std::end(kOpenPaths), path) != std::end(kOpenPaths);
}

// "name" of "name:8080" and of "[::1]:8080".
std::string_view HostName(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

// Whether a name is an address, which no other site's name can be made to stand for.
bool IsAddress(std::string_view name) {
  if (name.starts_with('[')) return true;
  return !name.empty() && name.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool Contains(const std::vector<std::string>& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

std::string_view WithoutScheme(std::string_view origin) {
  const size_t slashes = origin.find("://");
  return slashes == std::string_view::npos ? origin : origin.substr(slashes + 3);
}

}  // namespace

bool SameSecret(std::string_view given, std::string_view secret) {
  unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    const char other = secret.empty() ? '\0' : secret[i % secret.size()];
    difference |= static_cast<unsigned char>(given[i] ^ other);
  }
  return difference == 0;
}

bool Access::NeedsKey(const std::string& path) const {
  return !rules_.api_keys.empty() && !IsOpenPath(path);
}

bool Access::HasKey(const HttpRequest& head) const {
  std::string_view given = head.Header("x-api-key");
  const std::string_view authorization = head.Header("authorization");
  constexpr std::string_view kBearer = "Bearer ";
  if (authorization.starts_with(kBearer)) given = authorization.substr(kBearer.size());
  bool found = false;
  for (const std::string& key : rules_.api_keys) found = SameSecret(given, key) || found;
  return found;
}

bool Access::IsOurName(std::string_view host) const {
  const std::string_view name = HostName(host);
  return name.empty() || name == "localhost" || IsAddress(name) ||
         Contains(rules_.allowed_hosts, name);
}

// With a key any page may call that has it.
bool Access::MayCall(std::string_view origin) const {
  return !rules_.api_keys.empty() || Contains(rules_.allowed_origins, "*") ||
         Contains(rules_.allowed_origins, origin);
}

std::optional<ApiError> Access::Refuse(const HttpRequest& head) const {
  if (head.method == "OPTIONS") return std::nullopt;
  if (NeedsKey(head.path) && !HasKey(head)) {
    return ApiError(ApiErrorKind::kAuthentication, "the API key is missing or wrong");
  }
  if (!rules_.api_keys.empty()) return std::nullopt;
  const std::string_view host = head.Header("host");
  if (!IsOurName(host)) {
    return ApiError(ApiErrorKind::kForbidden,
                    "the request is for a host of another name; expected localhost or an address");
  }
  const std::string_view origin = head.Header("origin");
  if (!origin.empty() && WithoutScheme(origin) != host && !MayCall(origin)) {
    return ApiError(ApiErrorKind::kForbidden, "pages of other sites may not call this server");
  }
  return std::nullopt;
}

std::vector<std::pair<std::string, std::string>> Access::Headers(const HttpRequest& request) const {
  const std::string_view origin = request.Header("origin");
  if (origin.empty() || !MayCall(origin)) return {};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Allow-Credentials", "true"},
          {"Vary", "Origin"}};
}

HttpResponse Access::Preflight(const HttpRequest& request) const {
  HttpResponse response = {.content_type = "", .headers = Headers(request)};
  if (!response.headers.empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    response.headers.emplace_back("Access-Control-Allow-Headers", "*");
  }
  return response;
}

}  // namespace thermocline
