using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// Keeps what the handler wants called before the response starts, so that it is called before the response is recorded: headers that it sets are part of the outcome. What was registered
/// outside is called when the response really starts, for a replay too.
/// </summary>
internal sealed class HeldStart(IHttpResponseFeature inner) : IHttpResponseFeature
{
    private List<(Func<object, Task> Callback, object State)>? _callbacks;
    private bool _called;

    public int StatusCode
    {
        get => inner.StatusCode;
        set => inner.StatusCode = value;
    }

    public string? ReasonPhrase
    {
        get => inner.ReasonPhrase;
        set => inner.ReasonPhrase = value;
    }

    public IHeaderDictionary Headers
    {
        get => inner.Headers;
        set => inner.Headers = value;
    }

    [Obsolete("Use IHttpResponseBodyFeature.Stream instead.")]
    public Stream Body
    {
        get => throw new NotSupportedException("Use IHttpResponseBodyFeature.Stream.");
        set => throw new NotSupportedException("Use IHttpResponseBodyFeature.Stream.");
    }

    public bool HasStarted => _called || inner.HasStarted;

    public void OnStarting(Func<object, Task> callback, object state)
    {
        if (HasStarted)
        {
            throw new InvalidOperationException("OnStarting cannot be set because the response has already started.");
        }

        (_callbacks ??= []).Add((callback, state));
    }

    public void OnCompleted(Func<object, Task> callback, object state) => inner.OnCompleted(callback, state);

    /// <summary>The last one registered is the first one called, as servers do.</summary>
    public async ValueTask CallAsync()
    {
        while (_callbacks is { Count: > 0 })
        {
            (Func<object, Task> callback, object state) = _callbacks[^1];
            _callbacks.RemoveAt(_callbacks.Count - 1);
            await callback(state).ConfigureAwait(false);
        }

        _called = true;
    }

    /// <summary>Gives them to the server: somebody outside answers.</summary>
    public void HandOn()
    {
        if (!inner.HasStarted)
        {
            foreach ((Func<object, Task> callback, object state) in _callbacks ?? [])
            {
                inner.OnStarting(callback, state);
            }
        }

        _callbacks = null;
    }
}
