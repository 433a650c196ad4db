using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// Makes one attempt: a POST that is signed afresh, under one deadline over connection, headers and body. No redirects, cookies, decompression or proxy, 8 KB of the answer's body and 16 KB of its headers; the
/// connection goes to an address that the rules let pass.
/// </summary>
internal sealed class AttemptSender : IDisposable
{
    private const int MaxResponseBytes = 8192;

    private readonly Func<Settings> _settings;
    private readonly TimeProvider _timeProvider;
    private readonly HttpMessageHandler? _handler;
    private readonly Signers _signers;
    private volatile HttpMessageInvoker _invoker;

    /// <param name="settings">Gives those in force.</param>
    /// <param name="timeProvider">The time.</param>
    /// <param name="handler">Instead of real connections, for tests of what follows from an answer.</param>
    public AttemptSender(Func<Settings> settings, TimeProvider timeProvider, HttpMessageHandler? handler = null)
    {
        _settings = settings;
        _timeProvider = timeProvider;
        _signers = new Signers(timeProvider);
        _handler = handler;
        _invoker = new HttpMessageInvoker(handler ?? Connections());
    }

    /// <summary>How a name is resolved; tests put their own in its place. On a thread of its own: the platform's resolver blocks, for longer than the deadline, and slow names would use up the pool.</summary>
    public Func<string, CancellationToken, Task<IPAddress[]>> Resolve { get; set; } = static (host, token) =>
        Task.Factory.StartNew(static state => Dns.GetHostAddresses((string)state!), host, token, TaskCreationOptions.LongRunning, TaskScheduler.Default).WaitAsync(token);

    public async Task<Answer> SendAsync(WebhookClaim claim, CancellationToken stopping)
    {
        Settings settings = _settings();
        long begun = _timeProvider.GetTimestamp();
        using Activity? activity = Telemetry.StartAttempt(claim);
        Answer answer;
        try
        {
            answer = await SendAsync(claim, settings, begun, stopping).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            bool stopped = stopping.IsCancellationRequested && exception is OperationCanceledException;
            answer = new Answer(null, _timeProvider.GetElapsedTime(begun), stopped ? null : Told(exception), [], null, exception is not SigningException);
        }

        activity?.SetTag("http.response.status_code", answer.Status);
        activity?.SetStatus(answer.IsSuccess ? ActivityStatusCode.Unset : ActivityStatusCode.Error, answer.Error);
        return answer;
    }

    /// <summary>New settings: secrets are unprotected afresh, and addresses checked afresh, so connections that the old rules let pass are not used again.</summary>
    public void Forget()
    {
        _signers.Clear();
        if (_handler is null)
        {
            // The old one is not disposed, attempts are under way on it; its connections close when they are idle.
            _invoker = new HttpMessageInvoker(Connections());
        }
    }

    public void Dispose() => _invoker.Dispose();

    private SocketsHttpHandler Connections() => new()
    {
        AllowAutoRedirect = false,
        UseCookies = false,
        UseProxy = false,
        AutomaticDecompression = DecompressionMethods.None,
        MaxResponseHeadersLength = 16,
        MaxResponseDrainSize = 0,
        PooledConnectionLifetime = TimeSpan.FromMinutes(2),

        // Endpoints are many, and most hear something now and then: what is not used in a burst is not kept for each of them.
        PooledConnectionIdleTimeout = TimeSpan.FromSeconds(5),

        // The receiver is somebody else: it gets no trace context.
        ActivityHeadersPropagator = null,
        ConnectCallback = ConnectAsync,

        // A certificate names URLs of issuers and revocation lists, and they are the endpoint's choice as well: nothing is fetched from there.
        SslOptions = new SslClientAuthenticationOptions
        {
            CertificateChainPolicy = new X509ChainPolicy { DisableCertificateDownloads = true, RevocationMode = X509RevocationMode.NoCheck },
        },
    };

    private async Task<Answer> SendAsync(WebhookClaim claim, Settings settings, long begun, CancellationToken stopping)
    {
        // Also here: the rules may have become stricter since the URL was given.
        if (settings.Rules.Refusal(claim.Endpoint.Url, out Uri? uri) is string refusal)
        {
            throw new WebhookEndpointRefusedException(refusal);
        }

        using var request = new HttpRequestMessage(HttpMethod.Post, uri) { Content = new ReadOnlyMemoryContent(claim.Event.Payload) };
        request.Content.Headers.ContentType = settings.ContentType;
        request.Headers.TryAddWithoutValidation("User-Agent", settings.Options.UserAgent);
        Sign(request, claim, settings.Options);

        using var deadline = new CancellationTokenSource(settings.Options.AttemptTimeout, _timeProvider);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, stopping);
        int? status = null;
        TimeSpan? retryAfter = null;
        byte[] response = [];
        try
        {
            using HttpResponseMessage answer = await _invoker.SendAsync(request, either.Token).ConfigureAwait(false);
            status = (int)answer.StatusCode;
            retryAfter = RetryAfter(answer.Headers.RetryAfter);
            response = await ReadAsync(answer.Content, either.Token).ConfigureAwait(false);
            return new Answer(status, _timeProvider.GetElapsedTime(begun), null, response, retryAfter);
        }
        catch (Exception) when (deadline.IsCancellationRequested && !stopping.IsCancellationRequested)
        {
            string phase = status is null ? "no answer" : "the answer did not end";
            return new Answer(status, _timeProvider.GetElapsedTime(begun), string.Create(CultureInfo.InvariantCulture, $"{phase} within {settings.Options.AttemptTimeout.TotalSeconds:0.###} s"), response, retryAfter);
        }
        catch (Exception exception) when (status is not null && exception is HttpRequestException or IOException)
        {
            return new Answer(status, _timeProvider.GetElapsedTime(begun), "the answer broke off", response, retryAfter);
        }
    }

    private void Sign(HttpRequestMessage request, WebhookClaim claim, WebhookDeliveryOptions options)
    {
        try
        {
            _signers.Of(claim.Secrets, options).Sign(
                request.Headers,
                static (headers, name, value) => headers.TryAddWithoutValidation(name, value.ToString()),
                claim.Event.Id,
                claim.Event.Payload.Span);
        }
        catch (Exception exception)
        {
            throw new SigningException(exception);
        }
    }

    private TimeSpan? RetryAfter(RetryConditionHeaderValue? header)
    {
        TimeSpan? time = header?.Delta ?? header?.Date - _timeProvider.GetUtcNow();
        return time < TimeSpan.Zero ? TimeSpan.Zero : time;
    }

    private static async Task<byte[]> ReadAsync(HttpContent content, CancellationToken cancellationToken)
    {
        using Stream body = await content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        byte[] buffer = new byte[content.Headers.ContentLength is >= 0 and < MaxResponseBytes and long length ? (int)length + 1 : MaxResponseBytes + 1];
        int read = await body.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, cancellationToken).ConfigureAwait(false);
        return buffer[..Math.Min(read, MaxResponseBytes)];
    }

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellationToken)
    {
        string host = context.DnsEndPoint.Host;
        IPAddress[] records = IPAddress.TryParse(host, out IPAddress? literal) ? [literal] : await Resolve(host, cancellationToken).ConfigureAwait(false);
        IReadOnlyList<IPAddress> addresses = _settings().Rules.Checked(records);
        SocketException? last = null;
        foreach (IPAddress address in addresses.OrderBy(address => address.AddressFamily == AddressFamily.InterNetworkV6))
        {
            var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                await socket.ConnectAsync(new IPEndPoint(address, context.DnsEndPoint.Port), cancellationToken).ConfigureAwait(false);
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch (SocketException exception)
            {
                socket.Dispose();
                last = exception;
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }

        throw last!;
    }

    /// <summary>Said to who owns the endpoint, so nothing of what is inside: no address, no message of the platform.</summary>
    private static string Told(Exception exception)
    {
        for (Exception? inner = exception; inner is not null; inner = inner.InnerException)
        {
            if (inner is WebhookEndpointRefusedException refused)
            {
                return "refused: " + refused.Message;
            }

            if (inner is SigningException)
            {
                return "the secret could not be read";
            }
        }

        return exception switch
        {
            HttpRequestException { HttpRequestError: HttpRequestError.NameResolutionError } => "the host was not found",
            HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError } => "no connection",
            HttpRequestException { HttpRequestError: HttpRequestError.SecureConnectionError } => "no secure connection",
            HttpRequestException { HttpRequestError: HttpRequestError.ConfigurationLimitExceeded } => "the answer's headers are too large",
            HttpRequestException { HttpRequestError: HttpRequestError.ResponseEnded } => "the connection ended before the answer",
            HttpRequestException or IOException => "no valid answer",
            _ => "the attempt failed",
        };
    }

    private sealed class SigningException(Exception inner) : Exception(inner.Message, inner);
}
