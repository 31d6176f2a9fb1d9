/*
 * mobile_app_text.h
 *	  The part of mobile_app.h that only handles text. Server-free like oauth_text.h.
 */
#ifndef SMARTSPACE_MOBILE_APP_TEXT_H
#define SMARTSPACE_MOBILE_APP_TEXT_H

/*
 * NULL if it may stand on the allow-list of a mobile app: what oauth_check_redirect_uri()
 * takes, or a scheme of the app's own with "/" behind it, as in smartspace://login.
 * Otherwise what is wrong with it in words ("has a scheme that ...").
 */
extern const char *mobile_app_check_redirect_uri(const char *uri);

#endif
