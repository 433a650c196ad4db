using System.Text.Json.Serialization;

namespace Backend.Toolkit.Idempotency;

/// <summary>For an action without a result: that it ended is the outcome.</summary>
[JsonSerializable(typeof(bool))]
internal sealed partial class DoneJson : JsonSerializerContext;
