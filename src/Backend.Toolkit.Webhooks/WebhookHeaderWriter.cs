namespace Backend.Toolkit.Webhooks;

/// <summary>Sets a header of a request that is being signed.</summary>
/// <typeparam name="TTarget">What is being signed.</typeparam>
/// <param name="target">What is being signed.</param>
/// <param name="name">The name of the header.</param>
/// <param name="value">Its value, which lasts for this call.</param>
public delegate void WebhookHeaderWriter<in TTarget>(TTarget target, string name, ReadOnlySpan<char> value);
