using System.Text.Json.Serialization;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

[JsonSerializable(typeof(string))]
internal sealed partial class StringJson : JsonSerializerContext;
