"""The rejected field in an error body: each known format, with its documented example."""

from __future__ import annotations

import pytest

from speclab.connectors.http.write_errors import ErrorLocator
from speclab.core.json import Json

HUBSPOT = (
    'Property values were not valid: [{"isValid":false,"message":"Enter only letters","error":"INVALID_ALPHA",'
    '"name":"firstname"},{"isValid":false,"message":"Enter only letters","error":"INVALID_ALPHA","name":"lastname"}]'
)
DOCUMENTED: list[tuple[str, Json, str, str]] = [
    (
        "RFC 9457",
        {
            "type": "https://example.net/validation-error",
            "title": "Your request is not valid.",
            "errors": [
                {"detail": "must be a positive integer", "pointer": "#/age"},
                {"detail": "must be 'green', 'red' or 'blue'", "pointer": "#/profile/color"},
            ],
        },
        "age",
        "must be a positive integer",
    ),
    (
        "RFC 7807",
        {
            "type": "https://example.net/validation-error",
            "title": "Your request parameters didn't validate.",
            "invalid-params": [{"name": "age", "reason": "must be a positive integer"}],
        },
        "age",
        "must be a positive integer",
    ),
    (
        "JSON:API",
        {
            "errors": [
                {
                    "status": "422",
                    "source": {"pointer": "/data/attributes/firstName"},
                    "title": "Invalid Attribute",
                    "detail": "First name must contain at least two characters.",
                }
            ]
        },
        "data.attributes.firstName",
        "First name must contain at least two characters.",
    ),
    (
        "FastAPI",
        {
            "detail": [
                {
                    "type": "int_parsing",
                    "loc": ["body", "items", 0, "price"],
                    "msg": "Input should be a valid integer, unable to parse string as an integer",
                    "input": "foo",
                }
            ]
        },
        "items[0].price",
        "Input should be a valid integer",
    ),
    (
        "Prism",
        {
            "type": "https://stoplight.io/prism/errors#UNPROCESSABLE_ENTITY",
            "title": "Invalid request",
            "status": 422,
            "detail": "Your request is not valid and no HTTP validation response was found in the spec",
            "validation": [
                {
                    "location": ["body", "currency"],
                    "severity": "Error",
                    "code": "enum",
                    "message": "must be equal to one of the allowed values: EUR, USD",
                }
            ],
        },
        "currency",
        "must be equal to one of the allowed values",
    ),
    (
        "Prism 5",
        {"validation": [{"location": ["request", "body", "name"], "code": "required", "message": "is required"}]},
        "name",
        "is required",
    ),
    ("Django REST", {"email": ["Enter a valid email address."], "username": ["Taken."]}, "email", "Enter a valid"),
    ("Django REST nested", {"profile": {"age": ["A valid integer is required."]}}, "profile.age", "A valid integer"),
    (
        "Laravel",
        {
            "message": "The team name must be a string. (and 4 more errors)",
            "errors": {
                "team_name": ["The team name must be a string.", "The team name must be at least 1 characters."],
                "users.0.email": ["The users.0.email field is required."],
            },
        },
        "team_name",
        "The team name must be a string.",
    ),
    ("Laravel list", {"errors": {"users.0.email": ["is required."]}}, "users[0].email", "is required."),
    ("Rails", {"errors": {"base": ["cannot be saved"], "name": ["can't be blank"]}}, "name", "can't be blank"),
    ("Rails details", {"errors": {"name": [{"error": "blank"}]}}, "name", "blank"),
    (
        "ASP.NET",
        {"title": "One or more validation errors occurred.", "status": 400, "errors": {"$.price": ["not a decimal"]}},
        "price",
        "not a decimal",
    ),
    (
        "Stripe",
        {
            "error": {
                "code": "parameter_invalid_integer",
                "message": "Invalid integer: abc",
                "param": "items[0][quantity]",
                "type": "invalid_request_error",
            }
        },
        "items[0].quantity",
        "Invalid integer: abc",
    ),
    (
        "Salesforce",
        [
            {
                "message": "Required fields are missing: [LastName]",
                "errorCode": "REQUIRED_FIELD_MISSING",
                "fields": ["LastName"],
            }
        ],
        "LastName",
        "Required fields are missing: [LastName]",
    ),
    (
        "Salesforce collections",
        [
            {
                "success": False,
                "errors": [{"statusCode": "INVALID_EMAIL_ADDRESS", "message": "invalid email", "fields": ["Email"]}],
            }
        ],
        "Email",
        "invalid email",
    ),
    (
        "HubSpot",
        {"status": "error", "message": HUBSPOT, "correlationId": "11061cd3", "category": "VALIDATION_ERROR"},
        "firstname",
        "Enter only letters",
    ),
    (
        "HubSpot context",
        {
            "status": "error",
            "message": "Property values were not valid",
            "errors": [{"message": "not a number", "code": "INVALID_INTEGER", "context": {"propertyName": ["age"]}}],
        },
        "age",
        "not a number",
    ),
    (
        "HubSpot in",
        {"errors": [{"message": "unknown", "code": "PROPERTY_DOESNT_EXIST", "in": "prop2"}]},
        "prop2",
        "unk",
    ),
    ("Shopify REST", {"errors": {"title": ["can't be blank"]}}, "title", "can't be blank"),
    (
        "Shopify GraphQL",
        {
            "data": {
                "productCreate": {
                    "product": None,
                    "userErrors": [{"field": ["input", "title"], "message": "Title can't be blank"}],
                }
            }
        },
        "input.title",
        "Title can't be blank",
    ),
    (
        "Zod",
        {
            "error": {
                "issues": [
                    {
                        "code": "invalid_type",
                        "expected": "string",
                        "received": "number",
                        "path": ["names", 1],
                        "message": "Expected string, received number",
                    }
                ],
                "name": "ZodError",
            }
        },
        "names[1]",
        "Expected string, received number",
    ),
    ("Zod issues", {"success": False, "issues": [{"path": ["email"], "message": "Invalid email"}]}, "email", "Invalid"),
    ("Zod flattened", {"formErrors": [], "fieldErrors": {"name": ["Expected string"]}}, "name", "Expected string"),
    (
        "Ajv",
        [
            {
                "instancePath": "/foo",
                "schemaPath": "#/properties/foo/type",
                "keyword": "type",
                "params": {"type": "integer"},
                "message": "must be integer",
            }
        ],
        "foo",
        "must be integer",
    ),
    (
        "Ajv required",
        {
            "errors": [
                {
                    "instancePath": "",
                    "schemaPath": "#/required",
                    "keyword": "required",
                    "params": {"missingProperty": "bar"},
                    "message": "must have required property 'bar'",
                }
            ]
        },
        "bar",
        "must have required property 'bar'",
    ),
    (
        "Spring",
        {
            "timestamp": "2020-03-08T16:19:45.828+0000",
            "status": 400,
            "error": "Bad Request",
            "errors": [
                {
                    "codes": ["NotBlank.customer.name", "NotBlank.name", "NotBlank"],
                    "defaultMessage": "name can't be blank",
                    "objectName": "customer",
                    "field": "name",
                    "rejectedValue": "",
                    "bindingFailure": False,
                    "code": "NotBlank",
                }
            ],
            "message": "Validation failed for object='customer'. Error count: 1",
            "path": "/customers",
        },
        "name",
        "name can't be blank",
    ),
    (
        "Spring fieldErrors",
        {
            "title": "Method argument not valid",
            "status": 400,
            "message": "error.validation",
            "fieldErrors": [{"objectName": "userDTO", "field": "email", "message": "must be a well-formed email"}],
        },
        "email",
        "must be a well-formed email",
    ),
    (
        "Google",
        {
            "error": {
                "code": 400,
                "message": "Invalid value at 'message.android.priority'",
                "status": "INVALID_ARGUMENT",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.BadRequest",
                        "fieldViolations": [{"field": "emailAddresses[0].email", "description": "is not an email"}],
                    }
                ],
            }
        },
        "emailAddresses[0].email",
        "is not an email",
    ),
    (
        "Azure",
        {
            "error": {
                "code": "BadArgument",
                "message": "Multiple errors in ContactInfo data",
                "target": "ContactInfo",
                "details": [
                    {"code": "NullValue", "target": "PhoneNumber", "message": "Phone number must not be null"},
                    {"code": "MalformedValue", "target": "Address", "message": "Address is not valid"},
                ],
            }
        },
        "PhoneNumber",
        "Phone number must not be null",
    ),
    (
        "Azure innererror",
        {
            "error": {
                "code": "BadArgument",
                "message": "Previous passwords may not be reused",
                "target": "password",
                "innererror": {
                    "code": "PasswordError",
                    "innererror": {"code": "PasswordDoesNotMeetPolicy", "minLength": "6"},
                },
            }
        },
        "password",
        "Previous passwords may not be reused",
    ),
    (
        "GraphQL",
        {
            "errors": [
                {
                    "message": "Variable $input of type CreateUserInput! was provided invalid value",
                    "locations": [{"line": 1, "column": 10}],
                    "extensions": {
                        "value": {"email": "x"},
                        "problems": [{"path": ["email"], "explanation": "is not an email"}],
                    },
                }
            ]
        },
        "email",
        "is not an email",
    ),
    (
        "GraphQL validation",
        {
            "errors": [
                {"message": "Validation failed", "extensions": {"validation": {"input.email": ["must be an email"]}}}
            ]
        },
        "input.email",
        "must be an email",
    ),
    (
        "GraphQL path",
        {"errors": [{"message": "Name is required", "path": ["createUser", "name"]}], "data": None},
        "name",
        "Name is required",
    ),
    (
        "NestJS",
        {"statusCode": 400, "message": [{"property": "email", "constraints": {"isEmail": "email must be an email"}}]},
        "email",
        "",
    ),
    (
        "express-validator",
        {"errors": [{"type": "field", "value": "x", "msg": "Invalid value", "path": "email", "location": "body"}]},
        "email",
        "Invalid value",
    ),
]


@pytest.mark.parametrize(("body", "field", "output"), [case[1:] for case in DOCUMENTED], ids=[c[0] for c in DOCUMENTED])
def test_documented_example_of_a_format_names_its_field(body: Json, field: str, output: str) -> None:
    found, message = ErrorLocator(None, ()).find(body)
    assert found == field
    assert output in (message or "")


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"loc": ["query", "limit"], "msg": "too large"}]},
        {"validation": [{"location": ["header", "x-version"], "message": "is required"}]},
        {"tags": ["a", "b"], "id": 7},
        {"non_field_errors": ["Passwords differ."]},
        {"error": {"code": "Unauthorized", "message": "no", "target": None}},
        {"message": "Property values were not valid: [{broken"},
        {"status": "error", "message": [{"property": None}]},
        {"errors": {"base": ["cannot be saved"]}},
    ],
)
def test_error_without_a_field_of_the_record_has_no_location(body: Json) -> None:
    assert ErrorLocator(None, ()).find(body)[0] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"errors": [{"field": "email", "detail": "taken"}]}, "email"),
        ({"errors": [{"pointer": "#/address/lines/0", "detail": "empty"}]}, "address.lines[0]"),
        ({"errors": [{"pointer": "/odd~1key", "detail": "empty"}]}, "odd/key"),
        ({"errors": [{"pointer": "/lines/\u00b2", "detail": "empty"}]}, "lines.\u00b2"),
        ({"errors": [{"source": {"pointer": "/data/email"}, "detail": "taken"}]}, "email"),
        ({"errors": {"email": ["is taken"]}}, "email"),
        ({"detail": [{"loc": ["body", "address", "zip"], "msg": "too long"}]}, "address.zip"),
        ({"error": {"param": "email", "message": "taken"}}, "email"),
        ({"violations": [{"property": "data.email", "message": "taken"}]}, "email"),
        ({"error": "Not Found", "path": "/customers/7", "status": 404}, None),
        ({"errors": ["email is taken"]}, None),
        ({"errors": [{"field": "", "detail": "?"}, {"field": "email"}]}, "email"),
        ("no", None),
    ],
)
def test_blamed_field_is_found_under_common_names(body: Json, field: str | None) -> None:
    assert ErrorLocator(None, ("data",)).find(body)[0] == field
