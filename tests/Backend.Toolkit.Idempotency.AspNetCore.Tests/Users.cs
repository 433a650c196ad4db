using System.Security.Claims;
using Microsoft.AspNetCore.Builder;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>Believes a header.</summary>
internal static class Users
{
    public static void Use(WebApplication app) => app.Use((context, next) =>
    {
        if (context.Request.Headers["X-User"] is [{ } user])
        {
            string issuer = context.Request.Headers["X-Issuer"].ToString();
            var name = new Claim(ClaimTypes.Name, user, null, issuer);
            context.User = new ClaimsPrincipal(new ClaimsIdentity(
                context.Request.Headers.ContainsKey("X-Only-Named") ? [name] : [new Claim(ClaimTypes.NameIdentifier, user, null, issuer), name], "test"));
        }

        return next(context);
    });

    public static Action<HttpRequestMessage> Are(string name, string issuer = "here") => request =>
    {
        request.Headers.Add("X-User", name);
        request.Headers.Add("X-Issuer", issuer);
    };

    public static Action<HttpRequestMessage> AreOnlyNamed(string name, string issuer = "here") => request =>
    {
        Are(name, issuer)(request);
        request.Headers.Add("X-Only-Named", "yes");
    };
}
