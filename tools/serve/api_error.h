// What is wrong with a request, as clients of the OpenAI API read it: an object with a message, a
// type and a code. Nothing in it names a flag of ours.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "tools/http/http_message.h"

namespace thermocline {

using ApiJson = nlohmann::ordered_json;

enum class ApiErrorKind : unsigned char {
  kInvalidRequest,  // 400
  kTooLong,         // 400, of a prompt that does not fit
  kAuthentication,  // 401
  kForbidden,       // 403
  kNotFound,        // 404
  kNotAllowed,      // 405
  kTimeout,         // 408
  kTooLarge,        // 413
  kTooMany,         // 429
  kServer,          // 500
  kNoImages,        // 500, as clients of other servers know it
  kNotSupported,    // 501
  kUnavailable,     // 503
};

class ApiError : public std::runtime_error {
 public:
  // extra: further members of the error's object.
  ApiError(ApiErrorKind kind, const std::string& message, ApiJson extra = ApiJson::object())
      : std::runtime_error(message), kind_(kind), extra_(std::move(extra)) {}
  int status() const;
  ApiJson Object() const;  // {"error": {"code": 400, "message": ..., "type": ...}}

 private:
  ApiErrorKind kind_;
  ApiJson extra_;
};

// Serialises; bytes that are no UTF-8 become U+FFFD.
std::string Dump(const ApiJson& json);

HttpResponse JsonResponse(const ApiJson& json, int status = 200);
HttpResponse ErrorResponseOf(const ApiError& error);
// Of any exception: ApiError as it is, Error and others as what the server says of itself or of a
// request.
HttpResponse ErrorResponseOf(const std::exception& error);

}  // namespace thermocline
