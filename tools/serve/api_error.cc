#include "tools/serve/api_error.h"

#include <iterator>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

struct KindRow {
  ApiErrorKind kind;
  int status;
  const char* type;
};

constexpr KindRow kKinds[] = {
    {ApiErrorKind::kInvalidRequest, 400, "invalid_request_error"},
    {ApiErrorKind::kTooLong, 400, "exceed_context_size_error"},
    {ApiErrorKind::kAuthentication, 401, "authentication_error"},
    {ApiErrorKind::kForbidden, 403, "permission_error"},
    {ApiErrorKind::kNotFound, 404, "not_found_error"},
    {ApiErrorKind::kNotAllowed, 405, "invalid_request_error"},
    {ApiErrorKind::kTimeout, 408, "timeout_error"},
    {ApiErrorKind::kTooLarge, 413, "request_too_large"},
    {ApiErrorKind::kTooMany, 429, "rate_limit_error"},
    {ApiErrorKind::kServer, 500, "server_error"},
    {ApiErrorKind::kNoImages, 500, "server_error"},
    {ApiErrorKind::kNotSupported, 501, "not_supported_error"},
    {ApiErrorKind::kUnavailable, 503, "unavailable_error"},
};

const KindRow& RowOf(ApiErrorKind kind) {
  for (const KindRow& row : kKinds) {
    if (row.kind == kind) return row;
  }
  return *std::prev(std::end(kKinds));
}

}  // namespace

int ApiError::status() const { return RowOf(kind_).status; }

ApiJson ApiError::Object() const {
  ApiJson error = {{"code", status()}, {"message", what()}, {"type", RowOf(kind_).type}};
  error.update(extra_);
  return {{"error", std::move(error)}};
}

std::string Dump(const ApiJson& json) {
  return json.dump(-1, ' ', false, ApiJson::error_handler_t::replace);
}

HttpResponse JsonResponse(const ApiJson& json, int status) {
  return {.status = status, .body = Dump(json)};
}

HttpResponse ErrorResponseOf(const ApiError& error) {
  return JsonResponse(error.Object(), error.status());
}

HttpResponse ErrorResponseOf(const std::exception& error) {
  if (const auto* api = dynamic_cast<const ApiError*>(&error)) return ErrorResponseOf(*api);
  // What the runtime refuses it refuses for what was asked of it.
  const bool of_request = dynamic_cast<const Error*>(&error) != nullptr;
  return ErrorResponseOf(
      ApiError(of_request ? ApiErrorKind::kInvalidRequest : ApiErrorKind::kServer, error.what()));
}

}  // namespace thermocline
