using System.Data.Common;
using System.Diagnostics;
using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>Where events are put: one insert in the caller's own transaction, so that an event is sent exactly when what it tells of was committed. Thread-safe.</summary>
/// <param name="store">The store; the transactions are of its database.</param>
/// <param name="worker">The worker of this process, which looks sooner then; null: it finds the event at its next poll.</param>
public sealed class WebhookOutbox(IWebhookDeliveryStore store, WebhookDeliveryWorker? worker = null)
{
    private const int LongestText = 128;
    private const int MostPayloadBytes = 1_048_576;

    private readonly IWebhookDeliveryStore _store = store ?? throw new ArgumentNullException(nameof(store));

    internal string Name { get; init; } = "";

    /// <summary>Enqueues the event as a part of the transaction.</summary>
    /// <param name="webhookEvent">The event.</param>
    /// <param name="transaction">Of ADO.NET; with EF Core it is <c>context.Database.CurrentTransaction.GetDbTransaction()</c>.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The id of the event.</returns>
    /// <exception cref="ArgumentException">A text is too long, empty or holds what it must not, or the transaction is of another kind of database.</exception>
    public async ValueTask<string> EnqueueAsync(WebhookEvent webhookEvent, DbTransaction transaction, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(webhookEvent);
        ArgumentNullException.ThrowIfNull(transaction);
        return await EnqueueAsync(webhookEvent, null, transaction, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Enqueues the event in a transaction of its own, for what happens outside any database.</summary>
    /// <param name="webhookEvent">The event.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The id of the event.</returns>
    /// <exception cref="ArgumentException">A text is too long, empty or holds what it must not.</exception>
    public async ValueTask<string> EnqueueAsync(WebhookEvent webhookEvent, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(webhookEvent);
        return await EnqueueAsync(webhookEvent, null, null, cancellationToken).ConfigureAwait(false);
    }

    internal async ValueTask<string> EnqueueAsync(WebhookEvent webhookEvent, string? endpointId, DbTransaction? transaction, CancellationToken cancellationToken)
    {
        string id = webhookEvent.Id ?? NewId();
        Check(id.Length is >= 1 and <= LongestText && id.All(character => char.IsAsciiLetterOrDigit(character) || character is '-' or '_'), nameof(webhookEvent.Id), "1 to 128 of A–Z, a–z, 0–9, - and _");
        Check(IsType(webhookEvent.Type), nameof(webhookEvent.Type), "1 to 128 visible ASCII characters");
        Check(IsText(webhookEvent.Audience), nameof(webhookEvent.Audience), "1 to 128 characters, none of them a control character or half a surrogate pair");
        Check(webhookEvent.OrderKey is null || IsText(webhookEvent.OrderKey), nameof(webhookEvent.OrderKey), "null or 1 to 128 characters, none of them a control character or half a surrogate pair");
        Check(webhookEvent.Payload.Length <= MostPayloadBytes, nameof(webhookEvent.Payload), "at most 1 048 576 bytes");
        string? trace = Activity.Current is { IdFormat: ActivityIdFormat.W3C } activity ? activity.Id : null;
        await _store.EnqueueAsync(new WebhookEventRow(id, webhookEvent.Type, webhookEvent.Audience, webhookEvent.OrderKey, endpointId, trace, webhookEvent.Payload), transaction, cancellationToken).ConfigureAwait(false);
        Telemetry.Enqueued(Name);
        worker?.Wake();
        return id;
    }

    internal static bool IsType(string? type) => type is { Length: >= 1 and <= LongestText } && type.All(character => character is > ' ' and <= '~');

    /// <summary>Half of a surrogate pair becomes another character in a database, the same for all, so that audiences and keys that differ would meet.</summary>
    internal static bool IsText(string? text) => text is { Length: >= 1 and <= LongestText } && !text.Any(char.IsControl)
        && text.EnumerateRunes().Sum(rune => rune == Rune.ReplacementChar ? 0 : rune.Utf16SequenceLength) + text.Count(character => character == '\uFFFD') == text.Length;

    private static string NewId() => $"msg_{Guid.CreateVersion7():N}";

    private static void Check(bool valid, string property, string rule)
    {
        if (!valid)
        {
            throw new ArgumentException($"{property} of a WebhookEvent must be {rule}.");
        }
    }
}
