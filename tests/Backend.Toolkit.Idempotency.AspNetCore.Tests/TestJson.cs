using System.Text.Json.Serialization;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

[JsonSerializable(typeof(string))]
internal sealed partial class TestJson : JsonSerializerContext;
