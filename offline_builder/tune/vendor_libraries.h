// SPDX-License-Identifier: Apache-2.0
// The vendor libraries that this program was built to use, for plans with steps that they compute. None is opened before such
// a plan is prepared.
#pragma once

#include <string>

#include "edgert/cuda/library_call.h"
#ifdef EDGERT_HAVE_CUBLASLT
#include "edgert/cuda/library/cublaslt.h"
#endif
#ifdef EDGERT_HAVE_CUDNN
#include "edgert/cuda/library/cudnn.h"
#endif

namespace edgert::tune {

/// For one program at a time, which it must outlive.
class VendorLibraries {
 public:
  cuda::Libraries runners() {
    cuda::Libraries all;
#ifdef EDGERT_HAVE_CUBLASLT
    all.cublaslt = cublaslt_.runner();
#endif
#ifdef EDGERT_HAVE_CUDNN
    all.cudnn = cudnn_.runner();
#endif
    return all;
  }

  /// For people: which are there, and in which version. Whether all are.
  bool describe(std::string& text) {
    text.clear();
    bool all = true;
#ifdef EDGERT_HAVE_CUBLASLT
    all = describe("cuBLASLt", cublaslt_, text) && all;
#else
    all = missing("cuBLASLt", text);
#endif
#ifdef EDGERT_HAVE_CUDNN
    all = describe("cuDNN", cudnn_, text) && all;
#else
    all = missing("cuDNN", text);
#endif
    return all;
  }

 private:
  static bool missing(const char* name, std::string& text) {
    text += (text.empty() ? "" : "; ") + std::string(name) + ": edgert was built without its headers";
    return false;
  }
  template <class Library>
  static bool describe(const char* name, Library& library, std::string& text) {
    std::string why;
    const LogSink log{[](void* user, LogLevel, const char* line) { *static_cast<std::string*>(user) = line; }, &why};
    const bool found = library.open(log).ok();
    text += (text.empty() ? "" : "; ") + std::string(name) + (found ? " " + std::to_string(library.version()) : ": " + why);
    return found;
  }

#ifdef EDGERT_HAVE_CUBLASLT
  cuda::CublasLt cublaslt_;
#endif
#ifdef EDGERT_HAVE_CUDNN
  cuda::Cudnn cudnn_;
#endif
};

}  // namespace edgert::tune
