# The real one describes the package and sets CPack up. This one writes the description a line per
# value, so that the tests see what an extension manager would be told.
set(description "EXTENSION_NAME=${EXTENSION_NAME}\n")
foreach(value
    HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS LICENSE_FILE README_FILE)
  string(APPEND description "EXTENSION_${value}=${EXTENSION_${value}}\n")
endforeach()
foreach(file LICENSE_FILE README_FILE)
  # The path has to be whole: it is read from another folder when the package is made.
  if(NOT IS_ABSOLUTE "${EXTENSION_${file}}" OR NOT EXISTS "${EXTENSION_${file}}")
    message(FATAL_ERROR "EXTENSION_${file} points to no file: ${EXTENSION_${file}}")
  endif()
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/description.txt" "${description}")

# As the real one: one archive of all that is installed, whichever component it belongs to.
set(CPACK_GENERATOR TGZ)
set(CPACK_MONOLITHIC_INSTALL ON)
set(CPACK_PACKAGE_FILE_NAME "${EXTENSION_NAME}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${EXTENSION_DESCRIPTION}")
set(CPACK_PACKAGE_DESCRIPTION_FILE "${EXTENSION_README_FILE}")
set(CPACK_RESOURCE_FILE_LICENSE "${EXTENSION_LICENSE_FILE}")
include(CPack)
