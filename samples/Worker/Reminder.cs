using System.Text.Json.Serialization;

namespace Worker;

/// <param name="Number">The telephone number.</param>
/// <param name="Text">What is sent.</param>
internal sealed record Reminder(string Number, string Text);

[JsonSerializable(typeof(Reminder))]
[JsonSerializable(typeof(string))]
internal sealed partial class WorkerJson : JsonSerializerContext;
