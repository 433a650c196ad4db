using System.Text.Json.Serialization;

[JsonSerializable(typeof(Accepted))]
internal sealed partial class BenchmarkJson : JsonSerializerContext;
